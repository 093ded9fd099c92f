
'use strict';
// The server renders; this only puts what changed into its place, and says when no news comes.
(() => {
  const SILENCE = 15000;
  const element = id => document.getElementById(id);
  const put = (id, text) => { const at = element(id); if (at.textContent !== text) at.textContent = text; };
  let heard = Date.now(), away = null;

  const lost = why => {
    if (!away) away = element('clock').textContent;
    put('live', 'Not live.');
    put('stale', `✕ ${why} Everything below is as of ${away} UTC.`);
    element('stale').hidden = false;
  };
  const found = () => {
    heard = Date.now();
    away = null;
    put('live', 'Live.');
    element('stale').hidden = true;
    put('stale', '');
  };
  const connect = () => {
    const source = new EventSource('/events');
    source.addEventListener('page', event => {
      const parts = JSON.parse(event.data);
      // Another build has another page around the parts.
      if (parts.build && parts.build !== document.documentElement.dataset.build) { location.reload(); return; }
      for (const [id, inside] of Object.entries(parts)) { const at = element(id); if (at) at.innerHTML = inside; }
      found();
    });
    source.addEventListener('error', () => {
      lost('No connection to this worker.');
      // Otherwise the browser connects again by itself.
      if (source.readyState === EventSource.CLOSED) { setTimeout(connect, 5000); }
    });
    addEventListener('pagehide', () => source.close(), { once: true });
  };
  addEventListener('pageshow', event => { if (event.persisted) location.reload(); });
  setInterval(() => { if (Date.now() - heard > SILENCE) lost('No news from this worker.'); }, 1000);
  connect();
})();
