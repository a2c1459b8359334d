import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.rpc.address import identity_port, parse


@pytest.mark.parametrize("address", ["127.0.0.1:50052", "box-2:1", "a.lan:65534"])
def test_an_address_is_a_host_and_a_port(address):
    host, port = parse(address)
    assert f"{host}:{port}" == address
    assert identity_port(port) == port + 1


@pytest.mark.parametrize(
    "address",
    [
        "",
        "box",
        "box:",
        ":5",
        "box:0",
        "box:65535",
        "::1:5",
        "[::1]:5",
        "a b:5",
        "-x:5",
        "box:5:6",
        "box:5\n",
    ],
)
def test_anything_else_is_refused_with_its_form(address):
    with pytest.raises(BadInput, match="is no HOST:PORT with a name or an IPv4 address"):
        parse(address)
