"""Words of OpenQASM 3 that no parameter can be called."""

# The grammar's own (qasm3Lexer.g4 of openqasm/openqasm), and names that every program knows.
_KEYWORDS = """
OPENQASM include defcalgrammar def cal defcal gate extern box let break continue if else end return
for while in switch case default nop pragma input output const readonly mutable qreg qubit creg bool
bit int uint float angle complex array void duration stretch gphase inv pow ctrl negctrl dim
durationof delay reset measure barrier true false im
"""
_BUILT_IN = """
U pi tau euler arccos arcsin arctan ceiling cos exp floor imag log mod popcount real rotl rotr sin
sizeof sqrt tan
"""
# Gates of stdgates.inc.
_GATES = """
p x y z h s sdg t tdg sx rx ry rz cx cy cz cp crx cry crz ch swap ccx cswap cu CX phase cphase id u1
u2 u3
"""

RESERVED = frozenset((_KEYWORDS + _BUILT_IN + _GATES).split())
