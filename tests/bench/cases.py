"""What is measured: the cases, the tools beside bty, and what is aimed at."""

from dataclasses import dataclass

DD = "dd of={dev} bs=4M iflag=fullblock oflag=direct conv=fsync status=none"
QEMU = "qemu-img convert -n -t none -f qcow2 -O raw {src} {dev} && sync -d {dev}"
QEMU_PARALLEL = QEMU.replace("convert", "convert -m 8 -W")
BMAPTOOL = "bmaptool -q copy --bmap {bmap} --no-verify {src} {dev}"


@dataclass(frozen=True)
class Tool:
    """A way to get an image onto {dev} from {src}.

    kind: "bty"; "dd" for pipelines into dd; "other"; "map" for what leaves the old data where the
    image is empty, which makes it faster, and another disk than the image.
    """

    name: str
    command: str
    kind: str


def pipe(tool: str, command: str) -> Tool:
    return Tool(f"{tool}, dd", f"{command} {{src}} | {DD}", "dd")


BTY = Tool("bty", "bty flash {src} {dev} --yes --no-verify", "bty")
BTY_VERIFY = Tool("bty, verifying", "bty flash {src} {dev} --yes", "bty")
READ_BACK = Tool("read back", "dd if={dev} of=/dev/null bs=4M iflag=direct status=none", "read")
BMAP = Tool("bmaptool, map", BMAPTOOL, "map")
CONVERT = [
    Tool("qemu-img", QEMU, "other"),
    Tool("qemu-img -m 8 -W", QEMU_PARALLEL, "other"),
]
FETCH = "curl -sSf -o {tmp} {src} && "
FETCH_CONVERT = [
    Tool("curl, qemu-img", FETCH + QEMU.replace("{src}", "{tmp}"), "other"),
    Tool("curl, qemu-img -m 8 -W", FETCH + QEMU_PARALLEL.replace("{src}", "{tmp}"), "other"),
    Tool("qemu-img over HTTP", QEMU, "curl-driver"),
]

PEERS = {
    "raw": [
        Tool("dd", DD.replace("dd of", "dd if={src} of"), "dd"),
        BMAP,
        Tool("bmaptool, no map", "bmaptool -q copy --nobmap {src} {dev}", "other"),
    ],
    "gz": [pipe("gzip", "gzip -dc"), pipe("pigz", "pigz -dc"), BMAP],
    "xz-single": [pipe("xz", "xz -dc -T0")],
    "xz-multi": [pipe("xz", "xz -dc -T0")],
    "xz-9": [pipe("xz", "xz -dc -T0")],
    "bz2": [pipe("bzip2", "bzip2 -dc"), pipe("lbzip2", "lbzip2 -dc")],
    "zst": [pipe("zstd", "zstd -dc"), pipe("pzstd", "pzstd -q -dc"), BMAP],
    "zst-multi": [pipe("zstd", "zstd -dc"), pipe("pzstd", "pzstd -q -dc")],
    "zst-long": [pipe("zstd", "zstd -dc --long=27")],
    "lz4": [pipe("lz4", "lz4 -dc")],
    "qcow2": CONVERT,
    "qcow2-zlib": CONVERT,
    "qcow2-zstd": CONVERT,
    "http-zst": [Tool("curl, zstd, dd", f"curl -sSf {{src}} | zstd -dc | {DD}", "dd")],
    "http-qcow2": FETCH_CONVERT,
    "http-qcow2-zlib": FETCH_CONVERT,
}


@dataclass(frozen=True)
class Case:
    """An image in a form, from a file or over HTTP."""

    image: str
    kind: str

    @property
    def key(self) -> str:
        return f"{self.image}/{self.kind}"

    @property
    def form(self) -> str:
        return self.kind.removeprefix("http-")

    @property
    def is_http(self) -> bool:
        return self.kind.startswith("http-")

    @property
    def peers(self) -> list[Tool]:
        return PEERS[self.kind]


QUICK_KINDS = ["raw", "gz", "xz-multi", "bz2", "zst", "qcow2", "http-qcow2"]
LARGE_KINDS = ["raw", "gz", "zst", "qcow2", "http-qcow2"]
# formats whose decoders need much memory
MEMORY_KINDS = ["xz-9", "zst-long"]


def cases(quick: bool) -> list[Case]:
    chosen = [Case("full-1g", "raw")]
    for image in ("half-1g", "tenth-1g"):
        kinds = QUICK_KINDS if quick else [kind for kind in PEERS if kind not in MEMORY_KINDS]
        chosen += [Case(image, kind) for kind in kinds]
    if not quick:
        chosen += [Case("half-1g", kind) for kind in MEMORY_KINDS]
        chosen += [Case(image, kind) for image in ("half-4g", "tenth-4g") for kind in LARGE_KINDS]
    return chosen


AIMS = {"zst": 0.6, "gz": 0.35, "bz2": 0.4, "xz-multi": 0.8, "qcow2": 0.8, "qcow2-zlib": 0.8, "qcow2-zstd": 0.8}
AIMS_HTTP = {"http-qcow2": 0.5, "http-qcow2-zlib": 0.5}
AIM_TENTH = 0.3
MEMORY_MIB = 256


def aim(case: Case) -> tuple[float, str] | None:
    """The ratio aimed at, and beside what: the "best" tool, or the best "dd" pipeline."""
    if case.key == "full-1g/raw":
        return 1.0, "best"
    if case.kind in AIMS_HTTP:
        return AIMS_HTTP[case.kind], "best"
    if case.image.startswith("tenth") and any(tool.kind == "dd" for tool in case.peers):
        return AIM_TENTH, "dd"
    if case.kind in AIMS:
        return AIMS[case.kind], "best"
    return None
