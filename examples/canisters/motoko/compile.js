// Compiles one Motoko actor with npm's `motoko` package: node compile.js SOURCE OUTPUT [classicOP]
// It may import other sources of its folder, and `ic:aaaaa-aa` if that has an ic.did. `classicOP`: its heap doesn't outlive upgrades.
const fs = require("fs"), path = require("path");
const [source, output, ...flags] = process.argv.slice(2);
const mo = require("motoko").default ?? require("motoko");
mo.loadPackage(require("motoko/packages/latest/core.json"));
for (const flag of flags) mo.compiler.gcFlags(flag);
const read = (name) => fs.readFileSync(path.join(path.dirname(source), name), "utf8");
for (const name of fs.readdirSync(path.dirname(source))) {
  if (name.endsWith(".mo")) mo.write(name, read(name));
  if (name === "ic.did") mo.write("idl/aaaaa-aa.did", read(name));
}
mo.write("Main.mo", fs.readFileSync(source, "utf8"));
try {
  const { wasm } = mo.wasm("Main.mo", "ic");
  fs.writeFileSync(output, wasm);
  fs.writeFileSync(output.replace(/\.wasm$/, ".did"), mo.candid("Main.mo"));
} catch (error) {
  for (const d of error.diagnostics ?? [])
    console.error(`${d.source}:${d.range?.start?.line + 1}: ${d.message}`);
  console.error(String(error.message).slice(0, 2000));
  process.exit(1);
}
