// Headless Chromium on the network's page and on pages that a canister serves.
import { Certificate, LookupPathStatus } from "@icp-sdk/core/agent";
import { Principal } from "@icp-sdk/core/principal";
import puppeteer from "puppeteer-core";
import { check, expect, hex, ready } from "./checks.mjs";

const browser = await puppeteer.launch({
  executablePath: process.argv[4],
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP *.localhost 127.0.0.1"],
});
const problems = [];
const assets = ready.canisters.assets;
const port = new URL(ready.url).port;

async function open(url) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  const response = await page.goto(url, { waitUntil: "load" });
  return [page, response];
}

async function until(page, condition, ...args) {
  await page.waitForFunction(condition, { timeout: 60_000, polling: 100 }, ...args);
}

await check("the page lists subnets, nodes, canisters and methods", async () => {
  const [page] = await open(`${ready.url}/`);
  await until(page, () => document.querySelectorAll("#subnets tr").length === 2 && document.querySelectorAll("#canisters tr").length >= 3);
  const text = await page.evaluate(() => document.body.innerText);
  for (const one of ["nns", "app", "ledger", "transfer_from", assets]) expect(text.includes(one), `${one} on the page`);
  expect((await page.$$eval("#subnets .live", (all) => all.length)) === 3, "three live nodes");
});

await check("heights on the page grow", async () => {
  const [page] = await open(`${ready.url}/`);
  const height = () => Number(document.querySelector("#subnets .height")?.textContent ?? 0);
  await until(page, () => document.querySelector("#subnets .height"));
  const before = await page.evaluate(height);
  await until(page, (least) => Number(document.querySelector("#subnets .height").textContent) > least, before);
});

await check("the form calls a method from its Candid", async () => {
  const [page] = await open(`${ready.url}/`);
  await until(page, () => document.querySelectorAll("#canister option").length >= 3 && document.querySelectorAll("#as option").length >= 2);
  await page.select("#canister", ready.canisters.ledger);
  await page.select("#method", "mint");
  await page.select("#as", "minter");
  const call = async (argument) => {
    await page.$eval("#arg", (area, text) => { area.value = text; }, argument);
    await page.click("#send");
    await until(page, () => !document.querySelector("#answer").hidden && document.querySelector("#answer").textContent !== "…");
    return page.$eval("#answer", (one) => one.textContent);
  };
  expect((await call('principal "2vxsx-fae", 7')).includes("ok ="), "minted");
  expect((await call('"wrong"')).includes("expected"), "a clear error");
  await page.select("#method", "balance_of");
  expect((await call('(principal "2vxsx-fae")')).includes("7 : nat"), "the balance");
});

for (const url of [`http://${assets}.localhost:${port}/`, `${ready.url}/?canisterId=${assets}`]) {
  await check(`a canister's page at ${url.includes("?") ? "?canisterId=" : "its own host"}`, async () => {
    const [page, response] = await open(url);
    expect(new URL(page.url()).hostname === `${assets}.localhost`, "an origin of its own");
    expect((await page.$eval("#greeting", (one) => one.textContent)) === "Served by a canister", "the greeting");
    await until(page, () => document.getElementById("certified").textContent.startsWith("visit "));
    const header = response.headers()["ic-certificate"];
    const raw = Uint8Array.from(Buffer.from(header.match(/certificate=:([^:]*):/)[1], "base64"));
    const principal = Principal.fromText(assets);
    const certificate = await Certificate.create({ certificate: raw, rootKey: hex(ready.root_key), principal: { canisterId: principal } });
    const found = certificate.lookup_path(["canister", principal.toUint8Array(), "certified_data"]);
    expect(found.status === LookupPathStatus.Found && Buffer.from(found.value).toString() === "what this canister has certified", "certified data");
  });
}

await check("an agent in the browser", async () => {
  const [page] = await open(`http://${assets}.localhost:${port}/`);
  const status = await page.evaluate(async (url) => (await fetch(`${url}/api/v2/status`)).status, ready.url);
  expect(status === 200, "the status endpoint allows other origins");
});

await check("no script failed", async () => expect(problems.length === 0, problems.join("; ")));
await browser.close();
