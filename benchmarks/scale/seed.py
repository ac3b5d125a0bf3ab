"""Fills a database as weeks of work would, in SQL: finished, pending and a few running tasks, with what hangs on them.

Ids are UUIDv7 in the order of acceptance; clients, agents and priorities are mixed; both sizes have the same mixture.
"""

from __future__ import annotations

import psycopg
from a2a.types import Message, Part, Role

from tasks_app.status import Priority

CLIENTS = 20
#: (agent, lane) in the order of the remainder that picks it.
AGENTS = (("noop", "cpu"), ("busy", "cpu"), ("sleep-cpu", "cpu"), ("imaging", "cpu"), ("echo", "io"), ("sleep", "io"))
#: Running in either size: what runs is bounded by slots, not by history.
RUNNING = 50
CHUNK = 100_000
MESSAGE = Message(message_id="seeded", role=Role.ROLE_USER, parts=[Part(text="a message of some length " * 4)])

UUID7 = """
CREATE FUNCTION bench_uuid7(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6
    ), 52, 1), 53, 1), 'hex')::uuid
$$
"""

# One a second, so that a million span twelve days: nothing is old enough to be pruned in either database. The first
# of each kind of row are one of each client, agent and priority, so that in both databases as many groups wait.
MADE = """
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT bench_uuid7(at) AS id, gen_random_uuid() AS attempt_id, at, n,
       (SELECT min(id) FROM tasks_app_client) + client AS client_id,
       (%(agents)s::text[])[1 + kind] AS agent, (%(lanes)s::text[])[1 + kind] AS lane, priority::smallint
FROM (SELECT n, now() - (%(total)s - n) * interval '1 second' AS at,
             CASE WHEN k < %(groups)s THEN k ELSE hashint4(n) & 1023 END %% %(clients)s AS client,
             CASE WHEN k < %(groups)s THEN k / %(clients)s ELSE hashint4(n + 7) & 1023 END %% %(kinds)s AS kind,
             CASE WHEN k < %(groups)s THEN k / (%(clients)s * %(kinds)s)
                  ELSE (ARRAY[0, 1, 2, 2, 2, 2, 2, 3, 3, 3])[1 + (hashint4(n + 13) & 1023) %% 10] END AS priority
      FROM (SELECT n, n - %(begin)s AS k FROM generate_series(%(first)s::int, %(last)s::int) n) numbered) made
"""

REQUEST = """
INSERT INTO tasks_app_taskrequest
    (task_id, client_id, agent, message_id, digest, method, message, parameters, metadata, resources)
SELECT id, client_id, agent, gen_random_uuid()::text, sha256(uuid_send(id)), 'SendMessage',
       %(message)s, '{"seconds": 1}', '{}', '{}'
FROM made
"""

FINISHED = """
INSERT INTO tasks_app_task
    (id, client_id, agent, lane, priority, context_id, status, progress, attempt, spent, max_attempts, epoch,
     generation, run_after, publishes, timeout_s, created_at, status_at, updated_at, started_at, completed_at, error)
SELECT id, client_id, agent, lane, priority, 'c-' || n / 10,
       CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'completed' END, 1, 1, 1, 3, 2, 3, at, 1, 60, at,
       at + interval '0.9 s', at + interval '0.9 s', at + interval '20 ms', at + interval '0.9 s',
       CASE WHEN n %% 50 = 0 THEN '{"code": "handler_error", "message": "it broke"}'::jsonb END
FROM made
"""
# Nine of ten are due; the others wait for their time.
PENDING = """
INSERT INTO tasks_app_task
    (id, client_id, agent, lane, priority, context_id, status, progress, attempt, max_attempts, epoch, generation,
     run_after, publishes, timeout_s, created_at, status_at, updated_at)
SELECT id, client_id, agent, lane, priority, 'c-' || n / 10, 'pending', 0, 0, 3, 0, 1, due, 0, 60, at, at, at
FROM (SELECT *, CASE WHEN n %% 10 = 0 THEN now() + interval '1 day' ELSE at END AS due FROM made) made
"""
RUN = """
INSERT INTO tasks_app_task
    (id, client_id, agent, lane, priority, context_id, status, progress, attempt, max_attempts, epoch, generation,
     run_after, publishes, timeout_s, created_at, updated_at, started_at, lease_id, timeout_at)
SELECT id, client_id, agent, lane, priority, 'c-' || n / 10, 'running', 0, 1, 3, 1, 2, at, 1, 86400, at, at, now(),
       attempt_id, now() + interval '1 day'
FROM made
"""
EVENTS = """
INSERT INTO tasks_app_taskevent (task_id, generation, kind, status, progress, attempt, created_at)
SELECT id, generation, 'status', status, progress, attempt, at FROM made,
    (VALUES (1, 'pending', 0, 0), (2, 'running', 0, 1), (3, 'completed', 1, 1))
    AS event(generation, status, progress, attempt)
WHERE generation <= %(events)s
"""
ATTEMPT = """
INSERT INTO tasks_app_taskattempt
    (id, task_id, agent, number, epoch, worker, pid, claimed_at, lease_expires_at, ended_at, released_at, outcome,
     traceback)
SELECT attempt_id, id, agent, 1, 1, 'bench', 1, at, {lease}, {ended}, {ended}, {outcome}, '' FROM made
"""
ATTEMPT_ENDED = ATTEMPT.format(
    lease="at + interval '30 s'",
    ended="at + interval '1 s'",
    outcome="CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'completed' END",
)
ATTEMPT_LIVE = ATTEMPT.format(lease="now() + interval '1 day'", ended="NULL", outcome="NULL")
ARTIFACT = """
INSERT INTO artifacts_app_artifact
    (id, task_id, artifact_id, name, description, type, size_bytes, sha256, metadata, generation, created_at)
SELECT bench_uuid7(at), id, 'result', 'result', '', 'text/plain', 4, sha256('done'), '{}', 3, at FROM made
"""
CHUNKS = """
INSERT INTO artifacts_app_artifactchunk
    (task_id, generation, position, artifact_id, kind, media_type, filename, content)
SELECT made.id, 3, 0, artifact.id, 'text', 'text/plain', '', 'done'
FROM made JOIN artifacts_app_artifact artifact ON artifact.task_id = made.id
"""
CLIENT = """
INSERT INTO tasks_app_client (name, is_active, created_at)
SELECT 'bench-' || n, true, now() FROM generate_series(1, %(clients)s) n
"""
WORKER = """
INSERT INTO tasks_app_worker (name, lane, hostname, pid, slots, agents, state, started_at, heartbeat_at)
SELECT 'bench-' || lane, lane, 'bench', 1, 1000, %(agents)s, 'online', now(), now() + interval '1 day'
FROM unnest(ARRAY['cpu', 'io']) lane
"""


def seed(url: str, *, finished: int, pending: int) -> None:
    """Fills the migrated, empty database, then vacuums and analyses it. A million take about two minutes."""
    total = finished + RUNNING + pending
    with psycopg.connect(url, autocommit=True) as conn:
        # As a superuser may: foreign keys of rows that are right by construction are not looked up one by one.
        conn.execute("SET session_replication_role = replica")
        conn.execute("SET work_mem = '256MB'")
        conn.execute(UUID7)
        conn.execute(CLIENT, {"clients": CLIENTS})
        conn.execute(WORKER, {"agents": [name for name, _ in AGENTS]})
        last = 0
        for count, events, statements in (
            (finished, 3, (FINISHED, ATTEMPT_ENDED, ARTIFACT, CHUNKS)),
            (RUNNING, 2, (RUN, ATTEMPT_LIVE)),
            (pending, 1, (PENDING,)),
        ):
            begin = last + 1
            for first in range(begin, begin + count, CHUNK):
                until = min(first + CHUNK - 1, last + count)
                _insert(conn, begin, first, until, total, events, statements)
            last += count
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")


def _insert(
    conn: psycopg.Connection[tuple[object, ...]],
    begin: int,
    first: int,
    last: int,
    total: int,
    events: int,
    statements: tuple[str, ...],
) -> None:
    params = {
        "begin": begin,
        "first": first,
        "last": last,
        "total": total,
        "events": events,
        "groups": CLIENTS * len(AGENTS) * len(Priority),
        "clients": CLIENTS,
        "agents": [name for name, _ in AGENTS],
        "lanes": [lane for _, lane in AGENTS],
        "kinds": len(AGENTS),
        "message": MESSAGE.SerializeToString(),
    }
    with conn.transaction():
        for statement in (MADE, REQUEST, statements[0], EVENTS, *statements[1:]):
            conn.execute(statement, params)
