import asyncio

from serving.server import memory


def test_memory_is_returned_once_for_large_requests_at_about_the_same_time(monkeypatch):
    async def answer(*sizes):
        trimmer = memory.Trimmer(delay_seconds=0)
        for size in sizes:
            trimmer.answered(size)
        await asyncio.sleep(0.01)

    calls = []
    monkeypatch.setattr(memory, "trim", lambda: calls.append(1))
    asyncio.run(answer(memory.LARGE_BYTES))
    assert not calls
    asyncio.run(answer(memory.LARGE_BYTES + 1, memory.LARGE_BYTES + 1))
    assert len(calls) == 1
