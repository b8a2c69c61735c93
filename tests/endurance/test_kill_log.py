from tests.endurance.kill_log import Log, find_repeated_epochs

LINE = "I1128 15:59:{second:02d}.585312 140523063225216 trainer.py:105] {text}\n"


def write(folder, name: str, *lines: tuple[int, str]) -> None:
    text = "".join(LINE.format(second=second, text=text) for second, text in lines)
    (folder / f"run-{name}.log").write_text(text)


def epochs(first: int, last: int, second: int, loss: str = "") -> list[tuple[int, str]]:
    return [
        (second + i, f"epoch {epoch}: loss {loss or f'0.0{epoch}'}")
        for i, epoch in enumerate(range(first, last + 1))
    ]


def test_epochs_after_the_last_checkpoint_are_found_as_repeated(tmp_path):
    running, finished = "Component Trainer_9 is running.", "Component Trainer_9 is finished."
    write(tmp_path, "1", (0, running), *epochs(1, 5, 2))
    log = Log(tmp_path)
    assert find_repeated_epochs(log.events) == []
    write(tmp_path, "2", (20, running), *epochs(4, 7, 22), (30, "something else"))
    write(tmp_path, "3", (40, running), *epochs(8, 9, 42), (50, finished))
    write(tmp_path, "4", (51, running), (52, finished))
    log.update()
    (repeated,) = find_repeated_epochs(log.events)
    # Epochs 4 and 5, measured from the end of epoch 3.
    assert repeated == ("Trainer_9", 2, 4, 2.0, True)


def test_a_stage_that_starts_over_repeats_all_epochs_and_another_loss_is_noticed(tmp_path):
    running = "Component Trainer_9 is running."
    write(tmp_path, "1", (0, running), *epochs(1, 5, 2))
    write(tmp_path, "2", (20, running), *epochs(1, 6, 22, loss="0.5"))
    (repeated,) = find_repeated_epochs(Log(tmp_path).events)
    assert repeated == ("Trainer_9", 5, 1, 6.0, False)
