"""All SQL. One file per feature; each statement is a constant beside the method that runs it.

design.md 13 says what a statement may be; tests/storage/test_sql_rules.py checks every constant.
"""
