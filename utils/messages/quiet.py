"""Notices of libraries that no user of this project can act on, dropped where they are made. All others come through.

transformers says at import that torchvision is missing, and takes the image processor of Pillow, which is the one
that is wanted here. diffusers says at each change of type that no module has to stay in float32, and of a hub that
cannot be reached that it looks for the model on this machine; where it finds none, the command says so.
"""

import logging
import re

NOTICES = {  # by the logger that makes them
    "transformers.utils.import_utils": re.compile(r"`\w+` requires torchvision \(not installed\); falling back to"),
    "diffusers.pipelines.pipeline_utils": re.compile(r"Couldn't connect to the Hub"),
    "diffusers.models.modeling_utils": re.compile(r"There are modules in \w+ that should be kept in float32: \[\]"),
}


class DropNotice(logging.Filter):
    """Passes all records but those whose message begins as a pattern says."""

    def __init__(self, pattern: re.Pattern):
        super().__init__()
        self.pattern = pattern

    def filter(self, record: logging.LogRecord) -> bool:
        return self.pattern.match(record.getMessage()) is None


def quiet_libraries() -> None:
    """Drop the notices from now on; more than once does no more."""
    for name, pattern in NOTICES.items():
        logger = logging.getLogger(name)
        if not any(isinstance(one, DropNotice) for one in logger.filters):
            logger.addFilter(DropNotice(pattern))
