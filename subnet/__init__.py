"""A whole network: replicated state, certification, management canister, then the processes, the lab and the CLI.

`state`, `certification` and `management` are rules; `node`, `coordinator` and `zygote` are processes that never import one
another and meet in `protocol`; `lab` and `cli` are what users touch.
"""
