"""Names of the labels, annotations, gates and resources that admission writes and protects."""

RESOURCE = "ap.s390x.io/"
"""Prefix of the extended resources: the rest is a matrix's name."""
MATRIX = "ap.s390x.io/matrix"
"""Annotation by which a VM asks for a matrix; as a label, on VMIs and launcher pods, written by admission."""
GATE = "ap.s390x.io/placement"
HOLD = "ap.s390x.io/hold"
USE_LABEL = "use.ap.s390x.io/"
"""Prefix of the namespace labels that admission reads: the rest is a matrix's name.

The value is its UUID, and ``.KubeVirt`` behind it where its policy leaves evacuations to KubeVirt.
"""
PIN = "ap.s390x.io/pin"
"""Annotation of a pod whose node selector has a hostname that is not its VM's own but of its restart elsewhere."""
MIGRATION_LABEL = "kubevirt.io/migrationJobUID"
EVACUATION = "kubevirt.io/evacuationMigration"
"""Annotation of a migration that empties a node; its value is the node."""
MOVE = "ap.s390x.io/move"
"""Annotation of a migration that was made for an APMigration; its value is that object's name."""
ASKED_BY = "ap.s390x.io/asked-by"
"""Annotation of an APMigration that the operator made: who asked for the move."""
MIGRATION_UID = "ap.s390x.io/migration-uid"
"""Annotation of an APMigration that the operator made for a migration that was there first."""
