"""The width of the compiled loops."""

#: Bytes of the vectors that the loops are made of.
VECTOR_BYTES = 64
