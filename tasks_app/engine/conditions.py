"""Conditions on tasks that a statement looks up by their ids.

They are CASEs so that only the primary key serves such a look-up. Said plainly they imply the predicate of a partial
index, which the planner takes for smaller on a table without statistics, and holds on to: then each claim reads every
task that waits.
"""

PENDING = "CASE task.status WHEN 'pending' THEN true END"
WAITING = "CASE task.status WHEN 'pending' THEN task.admitted_at IS NULL END"
ADMITTED = "CASE task.status WHEN 'pending' THEN task.admitted_at IS NOT NULL END"
