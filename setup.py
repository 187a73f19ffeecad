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
# Exactness needs every float operation rounded on its own. -O3 is for the loops, which are plain C
# (10x slower at gcc's -O2), and so is -fno-trapping-math, which changes no result: nobody reads the
# exception flags. The glue that Cython makes is never hot, and takes a minute to optimize.
EXACT = ["-fno-fast-math", "-ffp-contract=off"]
LOOPS = {"msvc": ["/O2", "/fp:precise"], "other": ["-O3", "-g0", *EXACT, "-fno-trapping-math"]}
GLUE = {"msvc": ["/O2", "/fp:precise"], "other": ["-O1", "-g0", *EXACT]}


class BuildKernels(build_ext):
    """Compiles the loops and the glue, each with the flags of its own and of the compiler."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the plain C files, then the rest."""
        kind = self.compiler.compiler_type
        loops = [source for source in ext.sources if Path(source).parent.name == "_c"]
        ext.sources = [source for source in ext.sources if source not in loops]
        ext.extra_objects += self.compiler.compile(
            loops,
            output_dir=self.build_temp,
            macros=ext.define_macros,
            debug=self.debug,
            extra_postargs=LOOPS.get(kind, LOOPS["other"]),
            depends=ext.depends,
        )
        ext.extra_compile_args += GLUE.get(kind, GLUE["other"])
        super().build_extension(ext)


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
