"""Every Python that has this folder in its PYTHONPATH speaks no more than the original does: hastd and its workers."""

import hastfs.model

hastfs.model.PROTOCOL_VERSION = hastfs.model.ORIGINAL_VERSION
