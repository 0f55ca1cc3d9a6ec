"""The four Kubernetes objects as pydantic models; the CRD YAML beside them is generated from these."""
