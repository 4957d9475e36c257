"""Networks that a patch cannot express, and the sizes of the tiny models."""
