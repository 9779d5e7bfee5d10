"""The package behind *The Geometry of Representations*.

Rooms are kinds of thing: ``manifolds``, ``nn``, ``optim``, ``data``, ``viz``, ``repro``, ``cli`` and ``chapters``.
Importing :mod:`repgeom` imports none of them; each is imported by name, for example
``from repgeom.manifolds import rotations``.
"""

__version__ = "0.1.0"
