"""What several packages share. Loose modules serve all; each room says in its `__init__` what it holds."""

from utils.messages.quiet import quiet_libraries

quiet_libraries()
