"""A page in a real browser: what a person sees, and what went wrong."""

import base64

VIRIDIS = (68, 1, 84), (253, 231, 37)
BLUE, ORANGE = (47, 127, 214), (201, 89, 12)
PAPER = {"light": (255, 255, 255), "dark": (20, 23, 28)}
NEAR = 24
"""Of 255, in each of red, green and blue: antialiasing and rounding."""

# The shares of a PNG's pixels that have about these colours: a browser can read what it drew.
SHARES = """async ([png, colours, near]) => {
  const picture = new Image();
  picture.src = "data:image/png;base64," + png;
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const data = context.getImageData(0, 0, picture.width, picture.height).data;
  const hits = colours.map(() => 0);
  for (let i = 0; i < data.length; i += 4)
    colours.forEach((colour, k) => {
      hits[k] += colour.every((part, c) => Math.abs(part - data[i + c]) <= near);
    });
  return hits.map((n) => n / (data.length / 4));
}"""

DRAWN = """[...document.querySelectorAll('.chart')].every(
  (chart) => !chart.checkVisibility() || chart.querySelector('canvas, svg.marks'))"""


class Seen:
    """A page that is open, and what went wrong in it."""

    def __init__(self, browser, address, width=1100, scheme="light", scripts=True):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=scripts,
        )
        self.page = self.context.new_page()
        self.troubles, self.requests = [], []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda line: self.troubles.append(line.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        if scripts:
            self.wait()

    def wait(self):
        """Until every chart that is not on a hidden page is drawn."""
        self.page.wait_for_function(DRAWN)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()

    def shares(self, selector, *colours):
        """Of the pixels of an element's screenshot, how many have about each of these colours."""
        place = self.page.locator(selector)
        place.scroll_into_view_if_needed()
        png = base64.b64encode(place.screenshot()).decode()
        blank = self.context.browser.new_page()
        found = blank.evaluate(SHARES, [png, colours, NEAR])
        blank.close()
        return found
