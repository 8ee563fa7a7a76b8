"""Every Python that has this folder in its PYTHONPATH cleans its map all the time: hastd and its workers."""

import hastfs.resource.primary

hastfs.resource.primary.CLEAN_INTERVAL = 0.05
hastfs.resource.primary.CLEAN_BATCH = 4
