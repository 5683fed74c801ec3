// Runs in the report, after it is loaded: measures what a reader would see, and replaces the page by
// the findings, as JSON.
(() => {
    document.querySelectorAll("details").forEach((details) => (details.open = true));
    const findings = { faults: [] };
    const complain = (what) => findings.faults.length < 20 && findings.faults.push(what);
    const root = document.documentElement;
    findings.width = innerWidth;
    findings.page_width = root.scrollWidth;
    findings.dark = matchMedia("(prefers-color-scheme: dark)").matches;

    // Colours as red, green, blue and opacity, however the style writes them.
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const luminance = (colour) => {
        const [r, g, b] = [...rgba(colour)].slice(0, 3).map((value) => {
            const part = value / 255;
            return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => {
        const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (light + 0.05) / (dark + 0.05);
    };
    const paper = getComputedStyle(document.body).backgroundColor;
    findings.paper = [...rgba(paper)].slice(0, 3);
    const background = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (rgba(colour)[3] === 255) return colour;
        }
        return paper;
    };

    // Text outside of figures: WCAG 2.2, 1.4.3 asks for 4.5:1.
    let texts = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest("svg, script, style")) continue;
        texts += 1;
        const [ink, ground] = [getComputedStyle(element).color, background(element)];
        if (seen.has(ink + ground)) continue;
        seen.add(ink + ground);
        const found = contrast(ink, ground);
        if (found < 4.5) {
            complain(`contrast ${found.toFixed(2)}: '${walker.currentNode.data.trim()}', ${ink} on ${ground}`);
        }
    }
    findings.texts = texts;

    // Figures: no label on another or outside, tooltips, colours that the theme has exchanged.
    findings.figures = 0;
    findings.tips = 0;
    for (const svg of document.querySelectorAll("svg")) {
        findings.figures += 1;
        const name = svg.parentElement.getAttribute("aria-label");
        const tips = svg.querySelectorAll("title").length;
        findings.tips += tips;
        if (tips === 0) complain(`no tooltip: ${name}`);
        const frame = svg.getBoundingClientRect();
        const labels = [...svg.querySelectorAll("text")].map((text) => ({
            text: text.textContent.trim(),
            box: text.getBoundingClientRect(),
            ink: getComputedStyle(text).fill,
        }));
        labels.forEach(({ text, box, ink }, index) => {
            if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
                complain(`'${text}' is cut off: ${name}`);
            }
            for (const other of labels.slice(index + 1)) {
                const width = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
                const height = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
                if (width > 2 && height > 4) complain(`'${text}' lies on '${other.text}': ${name}`);
            }
            // Text in the colour of the paper stands in a mark.
            if (ink !== paper && contrast(ink, paper) < 4.5) complain(`'${text}' is pale: ${name}`);
        });
    }

    // Tables use the width of the window, and nothing but they and figures may be wider than it.
    findings.tables = 0;
    for (const table of document.querySelectorAll("table")) {
        findings.tables += 1;
        const frame = table.parentElement.clientWidth;
        if (table.scrollWidth > frame + 1 && frame < innerWidth * 0.9) {
            complain(`a table of ${table.scrollWidth} px has ${frame} of ${innerWidth} px`);
        }
    }
    for (const element of document.querySelectorAll("main *")) {
        if (element.closest(".wide, pre, svg")) continue;
        const box = element.getBoundingClientRect();
        if (box.right > innerWidth + 1) complain(`${element.tagName} ends at ${Math.round(box.right)} px`);
    }
    document.body.textContent = `FINDINGS ${JSON.stringify(findings)} END`;
})();
