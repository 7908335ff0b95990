// Opens pages in headless Chromium, uses them as a reader would, and prints what was seen as JSON.
// usage: node report_in_browser.cjs PLAYWRIGHT CHROMIUM SCREENSHOTS NAME=FILE...
"use strict";
const [library, chromium, folder, ...pages] = process.argv.slice(2);
const playwright = require(library);

async function open(browser, file, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const seen = {console: [], errors: [], requests: [], dialogs: 0};
  page.on("console", message => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", error => seen.errors.push(String(error.stack)));
  page.on("request", request => { if (!/^(file|data):/.test(request.url())) seen.requests.push(request.url()); });
  page.on("dialog", dialog => { seen.dialogs++; dialog.dismiss(); });
  const begun = Date.now();
  await page.goto(`file://${file}`);
  await page.waitForSelector("html[data-ready]", {timeout: 30000});
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => setTimeout(done))));  // and painted
  seen.seconds = (Date.now() - begun) / 1000;
  seen.overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  seen.background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  seen.charts = await page.evaluate(() => [...document.querySelectorAll(".plot canvas")].map(c => {
    const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data, colours = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colours.add((data[i] >> 4) * 256 + (data[i + 1] >> 4) * 16 + (data[i + 2] >> 4));
    return colours.size;
  }));
  return {context, page, seen};
}

// What is named, as assistive technology finds it.
const names = page => page.evaluate(() => {
  const unnamed = [...document.querySelectorAll("button, select, input, [role=img], [role=region], canvas:not([aria-hidden])")].filter(e =>
    !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length || e.closest("[role=img]")));
  return {
    unnamed: unnamed.map(e => e.outerHTML.slice(0, 120)),
    headings: [...document.querySelectorAll("h1, h2, h3")].map(h => +h.tagName[1]),
    landmarks: ["main", "nav", "header", "footer"].filter(tag => document.querySelector(tag)),
    language: document.documentElement.lang,
    loose: [...document.querySelectorAll("th")].filter(th => !th.scope).length,
  };
});

async function keyboard(page) {
  const out = {};
  await page.keyboard.press("Tab");
  out.first = await page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Enter");
  out.skipped = await page.evaluate(() => document.activeElement.id);
  let steps = 0;
  while (steps++ < 60 && !(await page.evaluate(() => document.activeElement.className === "plot"))) await page.keyboard.press("Tab");
  out.reached = await page.evaluate(() => document.activeElement.className);
  out.ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  await page.keyboard.press("ArrowRight");
  out.said = await page.evaluate(() => document.getElementById("live").textContent);
  await page.keyboard.press("ArrowRight");
  out.saidNext = await page.evaluate(() => document.getElementById("live").textContent);
  await page.keyboard.press("Escape");
  out.closed = await page.evaluate(() => document.querySelector("#frontier .tip").hidden);
  return out;
}

async function table(page) {
  const cells = column => page.$$eval(`#candidates-table tbody tr td:nth-child(${column})`, all => all.map(td => td.firstChild.textContent));
  const status = () => page.textContent("#candidates-table [role=status]");
  const out = {start: await status(), rows: (await cells(1)).length};
  const head = page.locator("#candidates-table th button").nth(2);
  let begun = Date.now();
  await head.focus();
  await page.keyboard.press("Enter");
  out.sortSeconds = (Date.now() - begun) / 1000;
  out.rising = await cells(3);
  out.sorted = await page.getAttribute("#candidates-table th:nth-child(3)", "aria-sort");
  await page.keyboard.press("Enter");
  out.falling = await cells(3);
  await page.fill("#search", "epochs nowhere-at-all");
  await page.waitForFunction(() => /No candidate/.test(document.querySelector("#candidates-table [role=status]").textContent));
  await page.fill("#search", "epochs 3");
  await page.waitForFunction(() => !/No candidate/.test(document.querySelector("#candidates-table [role=status]").textContent));
  out.found = await cells(2);
  await page.fill("#search", "");
  await page.waitForTimeout(400);
  const next = page.locator("#candidates-table button", {hasText: "Next"});
  if (await next.isEnabled()) { await next.click(); out.second = await status(); }
  return out;
}

(async () => {
  const browser = await playwright.chromium.launch({executablePath: chromium, args: ["--no-sandbox"]});
  const result = {};
  for (const [name, file] of pages.map(p => [p.slice(0, p.indexOf("=")), p.slice(p.indexOf("=") + 1)])) {
    const found = result[name] = {};
    for (const [mode, options] of Object.entries({
      light: {viewport: {width: 1200, height: 900}, colorScheme: "light"},
      dark: {viewport: {width: 1200, height: 900}, colorScheme: "dark"},
      phone: {viewport: {width: 390, height: 844}, colorScheme: "light", deviceScaleFactor: 2, hasTouch: true},
    })) {
      const {context, page, seen} = await open(browser, file, options);
      await page.screenshot({path: `${folder}/${name}-${mode}.png`});
      if (mode === "light") {
        seen.names = await names(page);
        seen.keyboard = await keyboard(page);
        seen.table = await table(page);
        await page.click("#theme");
        seen.toggled = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        await page.check("#near");
      }
      found[mode] = seen;
      await context.close();
    }
    const without = await browser.newContext({javaScriptEnabled: false});
    const page = await without.newPage();
    await page.goto(`file://${file}`);
    found.withoutScript = await page.locator("main").innerText();
    await without.close();
  }
  await browser.close();
  process.stdout.write(JSON.stringify(result));
})().catch(error => { console.error(error); process.exit(1); });
