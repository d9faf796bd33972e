// Registers the components where Dash looks for them: window.sightline_map.

import { address } from "./address";
import { instances, Map } from "./component";
import { watchPanels } from "./panels";
import { Upload } from "./upload";

const page = window as unknown as { dash_clientside?: Record<string, unknown> };
page.dash_clientside = Object.assign(page.dash_clientside ?? {}, { sightline_explore: { address } });
Object.assign(window, { sightline_map: { Map, Upload, instances } });
watchPanels();
