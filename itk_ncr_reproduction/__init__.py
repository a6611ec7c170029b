"""The paper's experiments: trains its networks and makes its tables and figures.

Nothing is imported here, so that the command line can ask for ``command`` without cost.
"""
