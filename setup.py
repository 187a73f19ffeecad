"""Cython and compiler settings of qinterp._kernels; everything else is in pyproject.toml.

QINTERP_CHECKED_KERNELS=1 builds with bounds checks and with the portable 128-bit arithmetic.
QINTERP_PLANTED_BUG=n builds with the n-th planted bug: the tests must fail.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CHECKED = os.environ.get("QINTERP_CHECKED_KERNELS") == "1"
PLANTED = os.environ.get("QINTERP_PLANTED_BUG", "0")
# Exactness needs every float operation rounded on its own. -O3 is for the plain C loops (10x
# slower at gcc's -O2), and so is -fno-trapping-math, which changes no result: nobody reads the
# exception flags.
FLAGS = {
    "msvc": ["/O2", "/fp:precise"],
    "other": ["-O3", "-fno-fast-math", "-ffp-contract=off", "-fno-trapping-math"],
}


class BuildKernels(build_ext):
    """Gives every compiler its own flags."""

    def build_extensions(self) -> None:
        """Add the flags, then build."""
        for extension in self.extensions:
            extension.extra_compile_args += FLAGS.get(self.compiler.compiler_type, FLAGS["other"])
        super().build_extensions()


kernels = Extension(
    "qinterp._kernels",
    ["qinterp/_kernels.pyx", *sorted(str(source) for source in Path("qinterp/_c").glob("*.c"))],
    define_macros=[
        ("QINTERP_PLANTED_BUG", PLANTED),
        *([("QINTERP_CHECKED_KERNELS", "1")] if CHECKED else []),
    ],
    depends=sorted(str(header) for header in Path("qinterp/_c").glob("*.h")),
)
checks = {"boundscheck": CHECKED, "wraparound": CHECKED, "initializedcheck": CHECKED}
setup(
    # force: Cython does not see that the directives changed
    ext_modules=cythonize(
        [kernels], compiler_directives={"language_level": 3, **checks}, force=True
    ),
    cmdclass={"build_ext": BuildKernels},
)
