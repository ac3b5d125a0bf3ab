"""The database refuses what the table of transitions refuses, and leaves room on pages for HOT updates."""

from django.db import migrations

from tasks_app.status import TRANSITIONS

ALLOWED = ", ".join(f"('{a.value}', '{b.value}')" for a, after in TRANSITIONS.items() for b in sorted(after))

# The condition runs in the executor, without calling the function, unless the move is refused.
CREATE = f"""
CREATE FUNCTION tasks_app_refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'task % cannot go from % to %', OLD.id, OLD.status, NEW.status
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'task_transition_allowed';
END $$;
CREATE TRIGGER task_transition_allowed BEFORE UPDATE OF status ON tasks_app_task
    FOR EACH ROW WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN ({ALLOWED}))
    EXECUTE FUNCTION tasks_app_refuse_transition();
ALTER TABLE tasks_app_task SET (fillfactor = 70);
ALTER TABLE tasks_app_taskattempt SET (fillfactor = 70);
"""
DROP = """
ALTER TABLE tasks_app_taskattempt RESET (fillfactor);
ALTER TABLE tasks_app_task RESET (fillfactor);
DROP TRIGGER task_transition_allowed ON tasks_app_task;
DROP FUNCTION tasks_app_refuse_transition();
"""


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
