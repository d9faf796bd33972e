// Builds assets/map.js (what Dash serves), or with --tests the unit tests into .build/.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const common = { bundle: true, logLevel: "warning", target: "es2022", absWorkingDir: here };

if (process.argv.includes("--tests")) {
  const tests = readdirSync(join(here, "test")).filter((name) => name.endsWith(".test.ts"));
  await build({
    ...common,
    entryPoints: tests.map((name) => join("test", name)),
    outdir: ".build",
    outExtension: { ".js": ".mjs" },
    format: "esm",
    platform: "node",
  });
} else {
  await build({
    ...common,
    entryPoints: ["src/index.ts"],
    outfile: join(here, "..", "..", "assets", "map.js"),
    format: "iife",
    platform: "browser",
    minify: true,
    sourcemap: process.argv.includes("--debug") ? "linked" : false,
    legalComments: "none",
    define: { "process.env.NODE_ENV": '"production"' },
  });
}
