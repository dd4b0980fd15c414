"""The estimator by the conventions of scikit-learn, its solvers and its statistics."""
