"""Topologies, subnet limits, fee tables and logging set-up, read from TOML into frozen records.

Every number names its source. Profiles: `mainnet` (the real system's figures) and `minimal` (small, for tests
and demos; departures marked `# [customized]`). Knows nothing of sandboxes, queues or processes.
"""
