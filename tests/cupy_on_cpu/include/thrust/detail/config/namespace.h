// CuPy's complex headers want two macros of Thrust; Thrust's own header would pull in all of libcu++.
#pragma once
#define THRUST_NAMESPACE_BEGIN namespace thrust {
#define THRUST_NAMESPACE_END }
