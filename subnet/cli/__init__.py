"""The command line `icsim`: reads topologies, starts and steers networks, prints what came out.

Everything a person types or reads passes here; nothing here decides what a network does.
It speaks to networks only through `subnet.lab` and the control socket.
"""
