"""The gateway process: HTTP for agents and browsers, one port for all subnets.

It holds no state of the network: what is asked of it it checks and passes on to the coordinator, which knows the nodes.
It can be killed at any time; the listening socket is the zygote's, so that waiting connections find its successor.
"""
