// The same message as the Rust contenders', and an HTTP client that keeps its connections.
import { Pool } from "undici";

export function body(number) {
  const pad = (width) => String(number).padStart(width, "0");
  return {
    touser: `oB3nch${pad(22)}`,
    template_id: "bEnchT3mplate_zun-LzcQyW-edafCVvzPkK4de2Rllr",
    page: `pages/order/detail/index?order=${pad(12)}&from=subscription`,
    miniprogram_state: "formal",
    lang: "zh_CN",
    data: {
      thing1: { value: "您预约的青少年周末篮球训练课程即将开始" },
      thing2: { value: "请提前十五分钟到达体育馆二层前台签到" },
      time3: { value: "2026年11月22日 15:01" },
      character_string4: { value: `ORDER-2026-11-22-${pad(12)}` },
      phrase5: { value: "已确认" },
    },
  };
}

export async function courier(connections) {
  const pool = new Pool(process.env.WECHAT_URL, { connections, pipelining: 1 });
  const post = async (path, text) => {
    const reply = await pool.request({
      path,
      method: "POST",
      headers: { "content-type": "application/json; charset=utf-8" },
      body: text,
    });
    return reply.body.json();
  };
  const { access_token: token } = await post(
    "/cgi-bin/stable_token",
    JSON.stringify({ grant_type: "client_credential", appid: "wxbench0001", secret: "bench-secret" }),
  );
  const path = `/cgi-bin/message/subscribe/send?access_token=${encodeURIComponent(token)}`;
  return async (text) => {
    const { errcode } = await post(path, text);
    if (errcode !== 0) throw new Error(`errcode ${errcode}`);
  };
}
