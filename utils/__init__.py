"""Code that several packages share: modules at the root serve all of them, and each subpackage names its subject."""

from utils.messages.quiet import quiet_libraries

quiet_libraries()
