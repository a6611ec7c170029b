"""The paper's experiments: networks trained, tables and figures made, beside what the paper prints.

Nothing is imported here, so that the command line can ask for ``command`` without cost.
"""
