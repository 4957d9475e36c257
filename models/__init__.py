"""Networks that a patch cannot express, and the sizes of the tiny models."""

import utils as utils  # before diffusers: it drops notices of libraries
