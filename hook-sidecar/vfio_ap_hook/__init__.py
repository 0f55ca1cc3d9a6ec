"""The hook sidecar: adds the VM's vfio-ap device to its domain, and holds a migration target until it is let go.

It runs once per VM, so it is kept small. Resident memory on CPython 3.11: bare Python 9 MiB; this program 16 MiB;
grpclib without a protobuf runtime 23 MiB, with it 26 MiB (asyncio makes 11 of that). Hence ``h2`` under a plain
``selectors`` loop, and the protocol's few messages coded by hand in ``protobuf``; the tests hold them to the real
grpc and protobuf libraries.

It imports none of the project's other packages: its image holds this one, h2, hpack and hyperframe, all pure
Python.
"""
