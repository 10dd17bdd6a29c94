"""The certified part of a subnet's state, certificates over it, and the root subnet's delegation to the others.

Rules only: who collects signature shares and who asks for certificates is the processes' business.
"""
