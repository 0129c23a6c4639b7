// What the page does beyond reading: shows times in the reader's zone, and renews the
// parts marked data-live when the server says that there is something new; when it cannot, it says so. Without it,
// everything can still be read and done.
'use strict';
const dress = root => {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.title = at.toLocaleString();
  }
};
dress(document);
const PATIENCE_MS = 10_000, SILENCE_MS = 20_000, PAUSE_MS = 1_000, PAUSE_MS_MAX = 60_000;
const notice = document.getElementById('renewal');
let busy = false, renewed = new Date(), asked = Date.now(), stream;

// Says since when nothing is new and why, and hides what the page claims of now; with no reason, takes it back.
const tell = (why, link) => {
  document.body.classList.toggle('stale', Boolean(why));
  const text = why ? `Not updated since ${renewed.toTimeString().slice(0, 8)}: ${why}. ` : '';
  if (notice.firstChild?.textContent === text || (!why && !notice.firstChild)) return;
  notice.replaceChildren(...(why ? [text, ...(link ? [link] : [])] : []));
};
// On the page of an owner, the body names the stream and the application.
const { stream: streamPath = '/live', name: application = 'webhookd' } = document.body.dataset;
const signIn = () => Object.assign(document.createElement('a'), { href: '/login', textContent: 'Sign in again' });

// The focus stays on a link to the same place.
const replace = (part, other) => {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const now = document.importNode(other, true);
  const same = [...now.querySelectorAll('a[href]')].find(link => link.getAttribute('href') === focused?.getAttribute('href'));
  if (focused && !same) return;
  dress(now);
  part.replaceWith(now);
  same?.focus({ preventScroll: true });
};
const renew = async () => {
  if (busy || document.hidden) return;
  busy = true;
  asked = Date.now();
  try {
    const answer = await fetch(location.href,
      { headers: { accept: 'text/html' }, redirect: 'manual', signal: AbortSignal.timeout(PATIENCE_MS) });
    // The only place that a page of ours sends people on to.
    if (answer.type === 'opaqueredirect') return tell('your session has ended', signIn());
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (!answer.ok) return tell(fresh.querySelector('[role=alert] b')?.textContent ?? `${application} answers with ${answer.status}`);
    for (const part of document.querySelectorAll('[data-live]')) {
      const other = fresh.getElementById(part.id);
      if (other && other.outerHTML !== part.outerHTML) replace(part, other);
    }
    renewed = new Date();
    tell();
  } catch { tell(`${application} does not answer`); } finally { busy = false; }
};

// A stream that fails is opened again, later each time: browsers give up those that are answered with anything else.
const follow = pause => {
  stream = new EventSource(streamPath);
  let next = Math.min(2 * pause, PAUSE_MS_MAX);
  stream.addEventListener('open', renew);
  stream.addEventListener('look', () => { next = PAUSE_MS; renew(); });
  stream.addEventListener('error', () => {
    stream.close();
    renew();
    setTimeout(follow, pause, next);
  });
};
if (document.querySelector('[data-live]')) {
  follow(PAUSE_MS);
  document.addEventListener('visibilitychange', renew);
  // What the browser breaks off because the reader goes elsewhere is no failure.
  addEventListener('pagehide', () => { busy = true; stream.close(); });
  addEventListener('pageshow', event => { if (event.persisted) location.reload(); });
  // A stream may be open and silent, as behind a proxy that keeps what it should pass on.
  setInterval(() => { if (Date.now() - asked > SILENCE_MS) renew(); }, PAUSE_MS);
}
