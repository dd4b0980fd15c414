"""Words by which readers look for a section that has another title: the index has them, the search shows it first."""

#: For each page the headings, and what people call what is below them.
WORDS = {
    "api/cross_entropy": {
        "# The loss on logits": [
            "label smoothing",
            "label_smoothing",
            "class_weight",
            "class weights",
            "sample_weight",
            "ignore_index",
            "z_loss",
            "focal loss",
            "softcap",
            "logit_shift",
            "logit adjustment",
            "reduction",
            "padding",
        ],
    },
    "howto/after_the_fit": {
        "## Save and load": ["save a model", "load a model", "pickle", "joblib"],
        "## Use it on another library or device": ["move a model"],
        "## Choose the penalty": ["regularization", "cross-validation"],
        "## Calibrate the probabilities": ["temperature scaling"],
        "## Standard errors": ["standard error", "p-value", "confidence interval"],
    },
    "howto/choose_backend": {
        "# See and choose which code runs": ["slow"],
        "## numba, and the first call": ["first call"],
    },
    "howto/embedding": {
        "## Put a copy inside your package": ["vendoring", "copy of softgrad"],
    },
    "howto/gpu": {
        "## What must be where": ["mixed precision", "autocast"],
    },
    "howto/large_data": {
        "# Data that does not fit": ["out of memory", "larger than memory"],
    },
    "howto/own_data": {
        "# Use your own data": ["CSV file", "parquet file"],
    },
    "migrating": {
        "## From PyTorch": [
            "torch.nn.CrossEntropyLoss",
            "nn.CrossEntropyLoss",
            "F.cross_entropy",
            "nll_loss",
            "segmentation",
            "channels first",
        ],
        "## From scipy.special": ["scipy.special"],
        "## From LogisticRegression": ["LogisticRegression", "binary", "sigmoid"],
    },
}


def name(app, page, source):
    """Put an entry of the index below each heading."""
    for heading, words in WORDS.get(page, {}).items():
        before, line, after = source[0].partition(f"{heading}\n")
        if not line:
            raise ValueError(f"{page} has no heading {heading!r}")
        entries = ", ".join(f"! {word}" for word in words)
        source[0] = f"{before}{line}\n```{{index}} {entries}\n```\n{after}"


def setup(app):
    app.connect("source-read", name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
