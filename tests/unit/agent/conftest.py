"""How many histories the property was tried on is said at the end."""

import sys


def pytest_terminal_summary(terminalreporter):
    for name, module in list(sys.modules.items()):
        if name.endswith("agent.test_property") and module.HISTORIES["count"]:
            count = module.HISTORIES["count"]
            terminalreporter.write_line(f"agent: {count} histories converged or said why, and hurt nobody")
