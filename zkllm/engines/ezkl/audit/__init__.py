"""The audit: is a proving key's circuit the relation that it is said to be?

`docs/ezkl-audit.md` says what is checked and what is not.
"""

from zkllm.engines.ezkl.audit.check import Relation, Report, audit
from zkllm.engines.ezkl.audit.evaluation import symbol

__all__ = ["Relation", "Report", "audit", "symbol"]
