"""The replica node process: turns batches into states, one per height, and answers queries on the last certified one.

`replica` is events in, effects out; `round` is a round on one page; `driver` runs rules on sandboxes; `main` and `transport`
own sockets and the process. Knows nothing of the coordinator but `subnet.protocol`.
"""
