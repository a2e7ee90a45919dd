import { listen } from "./app.js";

// Goes on to the deployment of an app once its first push arrives.
const wait = document.querySelector("[data-wait]");
if (wait) {
  const app = wait.dataset.wait;
  listen("/live", {
    event: (data) => {
      const event = JSON.parse(data);
      if (event.app !== app) return;
      if (event.kind === "build.started") location.assign(`/apps/${app}/deployments`);
      else if (event.kind.startsWith("release.")) location.assign(`/apps/${app}`);
    },
  });
}
