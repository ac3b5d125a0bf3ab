import pytest, base64
from tests.protocol.doors import *
def show(name, f):
    try:
        r=f()
        if isinstance(r, dict): print(name, str(r.get('error') or r)[:230])
        else: print(name, r.status_code, r.text[:200])
    except BaseException as e: print(name, 'RAISED', type(e).__name__, str(e)[:200])
def test_probe(doors):
    S=doors.submit
    show('ok', lambda: S(rest_body()))
    for n in (20,33,40,60,200,300,450,600,900,1000):
        show(f'resources {n}', lambda: S(rest_body(resources=nested(n))))
        show(f'metadata {n}', lambda: S(rest_body(metadata=nested(n))))
        show(f'parameters {n}', lambda: S(rest_body(agent="sleep",parameters={"seconds":nested(n)})))
        show(f'message.metadata {n}', lambda: S(rest_body(message=message(metadata=nested(n)))))
        show(f'rpc metadata {n}', lambda: doors.call("SendMessage", {**with_options(), "metadata": nested(n)}))
    for n in (20, 300): show(f'rpc id {n}', lambda: doors.post({"jsonrpc":"2.0","id":nested(n),"method":"x"}))
    for v in ("0001-01-01T00:00:00+00:00","0001-01-01T00:00:00+23:00","9999-12-31T23:59:59-23:00","9999-12-31T23:59:59Z"):
        show(f'run_after {v}', lambda: S(rest_body(run_after=v)))
    Task.objects.all().delete() if False else None
    for q in ("agent=%00","context_id=%00","status=%00","priority=%00","cursor=garbage","cursor="+base64.b64encode(b"p=xyz").decode(),"cursor="+base64.b64encode(b"p=%00").decode(),"page_size=0","page_size=abc","page_size=1000","page_size="+"9"*5000,"priority=normal","status=pending", "format=xx"):
        show(q, lambda: doors.send("GET", TASKS+"?"+q))
    show('list', lambda: doors.send("GET", TASKS))
def test_probe2(doors):
    S=doors.submit
    ok=S(rest_body()).json()["id"]
    for last in ("²","9"*5000,"-1","x"):
        show('last '+last[:5], lambda: doors.send("GET", f"{TASKS}{ok}/events/", headers={"last-event-id": last.encode("latin-1")}))
    for host in ("[","a b","x:99999","[::1]:80"):
        show('host '+host, lambda: doors.send("GET", "/a2a/echo/.well-known/agent-card.json", headers={"host": host}))
    show('key nul', lambda: doors.send("GET", TASKS, headers={"x-api-key": b"a\x00b"}))
    show('key nul rpc', lambda: doors.post({}, headers={"x-api-key": b"a\x00b"}))
    show('cl', lambda: doors.send("POST", "/a2a/echo/", content=b"{}", headers={"content-length": "²".encode("latin-1")}))
    show('snake', lambda: S(rest_body(message={"message_id":"m","parts":[{"text":"x"}]})))
    for cfg in ([],0,"",False,"x",5): show(f'cfg {cfg!r}', lambda: doors.call("SendMessage", {"message":message(),"configuration":cfg or cfg} if cfg else {"message":message(),"configuration":cfg, "metadata":{}} ) if cfg else None)
    for md in ([],0,"",False,"x",5): show(f'md {md!r}', lambda: S(rest_body(metadata=md)))
    for role in (True,1.0,"1",1,2): show(f'role {role!r}', lambda: S(rest_body(message=message(role=role))))
    for raw in ("=","QUJD=","QQ=","Q","QQ==","Q Q=","+-+-","\u00e9"): show(f'raw {raw!r}', lambda: S(rest_body(message=message(parts=[{"raw":raw}]))))
    async def chunks():
        for _ in range(40): yield b"x"*1_000_000
    show('chunked', lambda: doors.send("POST", TASKS, content=chunks(), headers={"content-type":"application/json"}))
    show('chunked rpc', lambda: doors.send("POST", "/a2a/echo/", content=chunks(), headers={"content-type":"application/json"}))
    show('peer key', lambda: doors.send("GET", TASKS, peer="10.0.0.1", headers={"x-api-key":"peer 127.0.0.1"}))
    show('timeout tiny', lambda: S(rest_body(timeout_s=1e-320)))
    show('text type', lambda: S(rest_body(agent="imaging", message=message(parts=[{"text":"x","mediaType":"application/x-foo"}]))))
