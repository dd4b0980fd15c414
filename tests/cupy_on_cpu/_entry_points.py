"""Replacing the C functions that CuPy's compiled modules import from one another.

A Cython module offers its ``cpdef`` functions to others as capsules in ``__pyx_capi__``: a pointer, named by the
function's C signature. Whoever imports the module later takes the pointer from there. We put in pointers to C functions
of that very signature, generated here, which call a Python function each; an exception of the Python function reaches
CuPy as one of its own would.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ._build import EmulationError, shared_library

_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_kept: list[ctypes.Array[ctypes.c_char]] = []
_capsule_new = ctypes.pythonapi.PyCapsule_New
_capsule_new.restype = ctypes.py_object
_capsule_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

# Format letter of PyObject_CallFunction and the type that it reads
_PASSED = {
    "int": ("i", "int"),
    "CUdevice": ("i", "int"),
    "cudaMemcpyKind": ("i", "int"),
    "unsigned int": ("I", "unsigned int"),
    "intptr_t": ("L", "long long"),
    "size_t": ("K", "unsigned long long"),
    "uintmax_t": ("K", "unsigned long long"),
    "PyObject *": ("O", "PyObject *"),
}
_RETURNED = {
    "int": "PyLong_AsLongLong",
    "unsigned int": "PyLong_AsLongLong",
    "intptr_t": "PyLong_AsLongLong",
    "size_t": "PyLong_AsUnsignedLongLong",
    "uintmax_t": "PyLong_AsUnsignedLongLong",
    "float": "PyFloat_AsDouble",
    "PyObject *": None,
}
# What Cython declares as the sign to look for an exception: pointers and handles have 0 for it
_ON_ERROR = {"intptr_t": "0", "uintmax_t": "0"}
# Types of CUDA's headers, which the generated file does without
_TYPES = {"CUdevice": "int", "cudaMemcpyKind": "int"}

_PRELUDE = """\
#include <stddef.h>
#include <stdint.h>
extern "C" {
typedef struct _object PyObject;
extern PyObject _Py_NoneStruct;
PyObject *PyObject_CallFunction(PyObject *, const char *, ...);
long long PyLong_AsLongLong(PyObject *);
unsigned long long PyLong_AsUnsignedLongLong(PyObject *);
double PyFloat_AsDouble(PyObject *);
void Py_IncRef(PyObject *);
void Py_DecRef(PyObject *);
static PyObject *targets[COUNT];
// CuPy frees memory while Python is torn down, when no Python function can be called any more.
static int closed = 0;
void emulation_close() { closed = 1; }
void emulation_set(int index, PyObject *target) { Py_IncRef(target); targets[index] = target; }
"""


@dataclass(frozen=True)
class Signature:
    """The C signature of a capsule."""

    returned: str
    parameters: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Parse a signature such as ``int (intptr_t, int __pyx_skip_dispatch)``."""
        found = re.fullmatch(r"(.+?)\s*\((.*)\)", text)
        if not found:
            # The capsule of a variable
            return cls(text, ())
        inside = found[2].strip()
        parameters = tuple(part.strip() for part in inside.split(",")) if inside not in ("", "void") else ()
        # To a caller, an object of one of Cython's classes is an object
        return cls(re.sub(r"struct __pyx_obj_\w+ \*", "PyObject *", found[1]), parameters)

    @property
    def values(self) -> tuple[int, ...]:
        """Positions of the parameters that carry a value: the others are Cython's own."""
        return tuple(
            i
            for i, kind in enumerate(self.parameters)
            if "__pyx_skip_dispatch" not in kind and "__pyx_optional_args" not in kind
        )

    def shim(self, name: str, index: int) -> str:
        """Return the C function that passes a call on to Python function number ``index``."""
        kinds = {i: self.parameters[i] for i in self.values}
        declared = ", ".join(
            f"{_TYPES.get(kinds[i], kinds[i])} a{i}"
            if i in kinds
            else ("int" if "__pyx_skip_dispatch" in kind else "void *")
            for i, kind in enumerate(self.parameters)
        )
        form = "".join(_PASSED[kind][0] for kind in kinds.values())
        passed = "".join(f", ({_PASSED[kind][1]})a{i}" for i, kind in kinds.items())
        call = f'PyObject_CallFunction(targets[{index}], "({form})"{passed})'
        returned = _TYPES.get(self.returned, self.returned)
        if _RETURNED[self.returned] is None:
            after = "Py_IncRef(&_Py_NoneStruct); return &_Py_NoneStruct;"
            body = f"if (closed) {{ {after} }} return {call};"
        else:
            failed = _ON_ERROR.get(self.returned, f"({returned})-1")
            convert = f"({returned}){_RETURNED[self.returned]}(result)"
            body = (
                f"if (closed) return 0; PyObject *result = {call}; if (!result) return {failed}; "
                f"{returned} value = {convert}; Py_DecRef(result); return value;"
            )
        return f"{returned} entry_{name}({declared or 'void'}) {{ {body} }}\n"


@functools.cache
def cupy_version() -> str:
    """Return the version of the CuPy installed, without importing it."""
    spec = importlib.util.find_spec("cupy")
    if spec is None or not spec.submodule_search_locations:
        raise EmulationError("there is no CuPy to put on the CPU: install cupy-cuda12x")
    text = (Path(spec.submodule_search_locations[0]) / "_version.py").read_text()
    found = re.search(r"__version__\s*=\s*['\"](.+?)['\"]", text)
    return found[1] if found else "(unknown version)"


def moved(what: str, expected: str) -> EmulationError:
    """Return the error for a CuPy whose insides are not where we know them."""
    return EmulationError(f"CuPy {cupy_version()} moved {what}: {expected}; the CPU emulation knows CuPy 14.x")


def load(name: str) -> ModuleType:
    """Import one of CuPy's inner modules."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise moved(name, str(error)) from error


def replace(where: str, stand_in: object) -> Callable[[], None]:
    """Put the methods of an object in the place of a Cython module's functions, for C and for Python callers.

    Every method replaces the function of its name. It takes the C function's mandatory arguments; those with a default
    are for Python callers alone.

    Returns
    -------
    callable
        Makes every replaced function do nothing: for the end of the process.
    """
    module = load(where)
    capsules = getattr(module, "__pyx_capi__", None)
    if capsules is None:
        raise moved(f"the C functions of {where}", "it has no __pyx_capi__")
    hidden = f"_{type(stand_in).__name__}__"
    names = [name for name in vars(type(stand_in)) if not name.startswith(("__", hidden))]
    shims, exported = [], []
    for name in names:
        if not hasattr(module, name) and name not in capsules:
            raise moved(f"{where}.{name}", "there is no such function")
        if name not in capsules:
            continue
        text = _capsule_name(capsules[name]).decode()
        signature = _known(Signature.parse(text), f"{where}.{name}", text)
        parameters = inspect.signature(getattr(stand_in, name)).parameters.values()
        mandatory = sum(parameter.default is parameter.empty for parameter in parameters)
        if mandatory != len(signature.values):
            raise moved(f"{where}.{name}", f"expected {mandatory} arguments, found {text}")
        shims.append(signature.shim(name, len(exported)))
        exported.append(name)
    source = _PRELUDE.replace("COUNT", str(max(1, len(exported)))) + "".join(shims) + "}\n"
    library = ctypes.PyDLL(str(shared_library(f"entries-{where.rpartition('.')[2]}", source)))
    library.emulation_set.argtypes = [ctypes.c_int, ctypes.py_object]
    for index, name in enumerate(exported):
        library.emulation_set(index, getattr(stand_in, name))
        pointer = ctypes.cast(getattr(library, f"entry_{name}"), ctypes.c_void_p).value
        # A capsule does not copy its name
        _kept.append(ctypes.create_string_buffer(_capsule_name(capsules[name])))
        capsules[name] = _capsule_new(pointer, _kept[-1], None)
    for name in names:
        setattr(module, name, getattr(stand_in, name))
    return library.emulation_close


def _known(signature: Signature, what: str, text: str) -> Signature:
    unknown = [signature.parameters[i] for i in signature.values if signature.parameters[i] not in _PASSED]
    if unknown or signature.returned not in _RETURNED:
        raise moved(what, f"its signature is {text}")
    return signature
