import asyncio

from serving.server import memory


def test_memory_is_returned_twice_after_requests_at_about_the_same_time(monkeypatch):
    async def answer(requests):
        trimmer = memory.Trimmer(delay_seconds=0)
        for _ in range(requests):
            trimmer.answered()
        await asyncio.sleep(0.05)

    calls = []
    monkeypatch.setattr(memory, "trim", lambda: calls.append(1))
    asyncio.run(answer(0))
    assert not calls
    asyncio.run(answer(2))
    assert len(calls) == 2
