// Compiles one Motoko actor with npm's `motoko` package: node compile.js SOURCE OUTPUT
const fs = require("fs");
const [source, output] = process.argv.slice(2);
const mo = require("motoko").default ?? require("motoko");
mo.loadPackage(require("motoko/packages/latest/core.json"));
mo.write("Main.mo", fs.readFileSync(source, "utf8"));
try {
  const { wasm } = mo.wasm("Main.mo", "ic");
  fs.writeFileSync(output, wasm);
  fs.writeFileSync(source.replace(/\.mo$/, ".did"), mo.candid("Main.mo"));
} catch (error) {
  for (const d of error.diagnostics ?? [])
    console.error(`${d.source}:${d.range?.start?.line + 1}: ${d.message}`);
  console.error(String(error.message).slice(0, 2000));
  process.exit(1);
}
