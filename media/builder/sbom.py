"""Software bills of materials: SPDX 2.3 documents that list what a product contains."""

import hashlib
import json
import os
import subprocess
import tomllib
from pathlib import Path

from .debian import Archive, sha256


ROOT = Path(__file__).resolve().parent.parent.parent


def crates(arch: str, packages: list[str]) -> list[tuple[str, str, str]]:
    """Returns name, version and digest of the crates in our programs, `packages`."""
    target = {"amd64": "x86_64", "arm64": "aarch64"}[arch] + "-unknown-linux-gnu"
    command = [os.environ.get("CARGO", "cargo"), "tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}", f"--target={target}"]
    tree = subprocess.run([*command, *(word for name in packages for word in ("-p", name))], check=True, cwd=ROOT, text=True, stdout=subprocess.PIPE).stdout
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return [(one["name"], one["version"], one["checksum"]) for one in locked if "checksum" in one and (one["name"], f"v{one['version']}") in used]


def write(path: Path, version: str, archive: Archive, own: dict[str, Path], products: list[Path], own_crates: list[str]):
    """Writes a document that lists Debian packages, programs with their crates, and files."""
    name = path.name.removesuffix(".spdx.json")

    def package(ident: str, **more) -> dict:
        common = {"downloadLocation": "NOASSERTION", "filesAnalyzed": False, "licenseConcluded": "NOASSERTION", "copyrightText": "NOASSERTION"}
        return {"SPDXID": f"SPDXRef-{ident}", **common, **more}

    def digest(value: str) -> list[dict]:
        return [{"algorithm": "SHA256", "checksumValue": value}]

    packages = []
    for found in sorted(archive.packages.values(), key=lambda found: found.name):
        reference = f"pkg:deb/debian/{found.name}@{found.version}?arch={found.arch}&distro={archive.suite}"
        packages.append(
            package(
                f"deb-{found.name}".replace("+", "-"),
                name=found.name,
                versionInfo=found.version,
                supplier="Organization: Debian",
                **({"checksums": digest(found.sha256)} if found.sha256 else {}),
                externalRefs=[{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": reference}],
            )
        )
    for program, file in sorted(own.items()):
        packages.append(package(f"own-{program}", name=program, versionInfo=version, checksums=digest(sha256(file))))
    for crate, number, checksum in crates(archive.arch, own_crates) if own else []:
        reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": f"pkg:cargo/{crate}@{number}"}
        packages.append(package(f"crate-{crate}-{number}".replace("_", "-").replace("+", "-"), name=crate, versionInfo=number, checksums=digest(checksum), externalRefs=[reference]))
    files = [
        {"SPDXID": f"SPDXRef-file-{file.name}".replace("_", "-"), "fileName": f"./{file.name}", "checksums": digest(sha256(file))}
        for file in sorted(products)
    ]
    contained = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": file["SPDXID"]} for file in files]
    inputs = "".join(sorted(f"{found['name']} {found['versionInfo']}" for found in packages))
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:bty:{name}:{hashlib.sha256(inputs.encode()).hexdigest()}",
        # constant, so that the document is reproducible
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: bty-media"]},
        "packages": packages,
        "files": files,
        "relationships": contained,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")

