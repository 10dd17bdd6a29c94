"""What users program against: networks as Python objects, the pytest fixture, replay and the universal canister's language.

Sits above the processes and below nothing but the CLI; talks to a running network through `subnet.control` alone.
"""
