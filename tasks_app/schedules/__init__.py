"""Recurring tasks: django-celery-beat's rows say when, the ledger of fires says what became of each instant.

=========  ============================================================
times      the instants of a schedule; pure
asked      what a body asks for
fire       makes the tasks that are due
=========  ============================================================
"""
