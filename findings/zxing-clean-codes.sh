#!/usr/bin/env bash
# A QR code that a program has drawn, without noise, is read by every reader, one
# expects. The ordinary search of @zxing/library, which many web scanners use, misses
# one in six of them: it takes a pattern in the data for a corner mark. Told that the
# picture is nothing but the code (PURE_BARCODE) it reads them all, as jsQR does.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.mjs <<'JS'
import QR from "qrcode";
import jsQR from "jsqr";
import { BinaryBitmap, DecodeHintType, HybridBinarizer, QRCodeReader, RGBLuminanceSource } from "@zxing/library";
import { readFileSync } from "node:fs";

for (const name of ["@zxing/library", "qrcode", "jsqr"]) {
  console.log(name, JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version);
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const n = 100, scale = 6, quiet = 4;
let seed = 1;
const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
const text = () => Array.from({ length: 200 }, () => letters[Math.floor(random() * letters.length)]).join("");

// draw paints a code: one byte a pixel, and as RGBA.
function draw(text) {
  const modules = QR.create(text, { errorCorrectionLevel: "M" }).modules;
  const width = (modules.size + 2 * quiet) * scale;
  const grey = new Uint8ClampedArray(width * width).fill(255);
  const rgba = new Uint8ClampedArray(width * width * 4).fill(255);
  for (let y = 0; y < modules.size * scale; y++) {
    for (let x = 0; x < modules.size * scale; x++) {
      if (!modules.get(Math.floor(y / scale), Math.floor(x / scale))) continue;
      const at = (y + quiet * scale) * width + x + quiet * scale;
      grey[at] = 0;
      rgba.fill(0, 4 * at, 4 * at + 3);
    }
  }
  return { width, grey, rgba };
}

function zxing({ width, grey }, hints) {
  try {
    return new QRCodeReader().decode(new BinaryBitmap(new HybridBinarizer(new RGBLuminanceSource(grey, width, width))), hints).getText();
  } catch {
    return null;
  }
}

let ordinary = 0, pure = 0, other = 0;
for (let i = 0; i < n; i++) {
  const t = text(), picture = draw(t);
  ordinary += zxing(picture) === t;
  pure += zxing(picture, new Map([[DecodeHintType.PURE_BARCODE, true]])) === t;
  other += jsQR(picture.rgba, picture.width, picture.width)?.data === t;
}
console.log(`of ${n} clean codes: ordinary search ${ordinary}, PURE_BARCODE ${pure}, jsQR ${other}`);
if (ordinary === n || pure !== n || other !== n) {
  console.log("CHANGED");
  process.exit(1);
}
JS

npm init -y > /dev/null
npm install --no-audit --no-fund --ignore-scripts --silent @zxing/library@0.21.3 qrcode@1.5.4 jsqr@1.4.0
node main.mjs
