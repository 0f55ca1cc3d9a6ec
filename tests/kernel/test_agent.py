"""The agent as it ships on a real s390x kernel: what the model is trusted for is held to the kernel here."""

import pytest

pytestmark = pytest.mark.kernel

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
PAYMENTS = {"uuid": A, "matrix": "payments", "adapters": "5", "domains": "4,17", "controlDomains": "4"}


def mdev(document, uuid):
    return next(item for item in document["mdevs"] if item["uuid"] == uuid)


def test_a_device_lives_from_creation_to_removal(guest):
    whole = guest.agent("inventory")
    assert [adapter["id"] for adapter in whole["adapters"]] == [5, 6, 7, 10, 11, 12]
    assert (whole["hostQueues"], whole["guestQueues"]) == (24, 0)
    assert whole["kernel"]["release"].startswith(guest.kernel)

    option = guest.desire([PAYMENTS])
    planned = guest.agent("plan", option)
    assert [step.partition("(")[0] for step in planned["steps"]] == ["EditMask", "Create", "Configure"]
    assert guest.agent("inventory")["mdevs" if False else "guestQueues"] == 0

    done = guest.agent("apply", option)
    assert mdev(done, A)["state"] == "Ready"
    assert (mdev(done, A)["guestAdapters"], mdev(done, A)["guestDomains"]) == ("5", "4,17")
    assert guest.agent("apply", option)["steps"] == []
    config = guest.sh(f"cat /sys/bus/mdev/devices/{A}/ap_config").strip().split(",")
    assert [mask[:10] for mask in config] == ["0x04000000", "0x08004000", "0x08000000"]

    # A guest has it: it is neither removed nor are its queues taken, and the holder is named.
    guest.sh(f"HOLD=1 setsid fakeguest {A} >/tmp/fakeguest.log 2>&1 </dev/null & echo $! >/tmp/fakeguest.pid")
    guest.sh(
        "for i in $(seq 100); do grep -q 'in use' /sys/bus/ap/devices/05.0004/status && exit 0; sleep 0.1; done; exit 1"
    )
    refused = guest.agent("apply", guest.desire([]), code=1)
    assert refused["steps"] == []
    leaving = mdev(refused, A)
    assert (leaving["state"], leaving["reason"], leaving["inUse"]) == ("Leaving", "InUse", True)
    assert "fakeguest" in leaving["message"] or "python" in leaving["message"]

    # Told to grow, it grows under the guest; the other adapter's queues come to vfio_ap first.
    grown = guest.agent("apply", guest.desire([PAYMENTS | {"adapters": "5-6"}]))
    assert mdev(grown, A)["guestAdapters"] == "5-6"
    assert guest.sh("cat /sys/bus/ap/devices/06.0011/status").strip() == "in use"

    guest.sh(
        "kill $(cat /tmp/fakeguest.pid); while kill -0 $(cat /tmp/fakeguest.pid) 2>/dev/null; do sleep 0.1; done"
    )
    gone = guest.agent("apply", guest.desire([]))
    assert gone.get("mdevs", []) == []
    assert (gone["hostQueues"], gone["guestQueues"]) == (24, 0)
    assert set(guest.sh("cat /sys/bus/ap/apmask /sys/bus/ap/aqmask").split()) == {"0x" + 64 * "f"}


def test_what_others_made_is_left_alone_and_adopted_only_when_equal(guest):
    create = "/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create"
    guest.sh(f"echo -7 > /sys/bus/ap/apmask && echo {B} > {create}")
    guest.sh(f"cd /sys/bus/mdev/devices/{B} && echo 7 > assign_adapter && echo 4 > assign_domain")
    overlap = {"uuid": A, "matrix": "payments", "adapters": "7", "domains": "4,18"}
    refused = guest.agent("apply", guest.desire([overlap]), code=1)
    assert mdev(refused, A)["reason"] == "QueueTaken"
    assert B in mdev(refused, A)["message"] and "07.0004" in mdev(refused, A)["message"]
    assert mdev(refused, B)["state"] == "Foreign"

    other = {"uuid": B, "matrix": "theirs", "adapters": "7", "domains": "4-5"}
    assert (
        mdev(guest.agent("apply", guest.desire([other | {"adopt": True}]), code=1), B)["reason"]
        == "AdoptionDiffers"
    )
    equal = other | {"domains": "4"}
    assert mdev(guest.agent("apply", guest.desire([equal]), code=1), B)["reason"] == "ForeignMdev"
    assert mdev(guest.agent("apply", guest.desire([equal | {"adopt": True}])), B)["state"] == "Ready"
    # Adopted, it is ours to remove; the mask bit is not ours to give back.
    assert guest.agent("apply", guest.desire([])).get("mdevs", []) == []
    assert guest.agent("inventory")["guestQueues"] == 4
    guest.sh("echo +7 > /sys/bus/ap/apmask")


def test_ids_above_the_maximum_and_reserved_queues_are_refused_before_anything_is_written(guest):
    reserved = [{"adapters": "10", "domains": "4"}]
    wish = [PAYMENTS | {"adapters": "10", "domains": "4"}]
    refused = guest.agent("apply", guest.desire(wish, reserved), code=1)
    assert mdev(refused, A)["reason"] == "HostReserved"
    assert refused["steps"] == []
