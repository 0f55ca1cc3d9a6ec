"""``kubectl ap``: asks a cluster, or a must-gather of one, and says what it finds. Never changes anything.

``reading`` has the only I/O and brings documents; ``snapshot`` makes the core's views of them; ``questions``
compute answers as data, with the same functions that the operator decides by; ``pages`` show them.
"""
