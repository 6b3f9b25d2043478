// 结算页：用户点「付款」时请求订阅，再把结果和订单一起报给后端。
// Checkout: asks for credits in the tap on "pay", then reports the answers together with the order.

// 一次最多 3 个模板，类型相同。 At most 3 ids a call, all of one type.
const TEMPLATES = ['TmplOrderPaid', 'TmplPickup']
const SHOP = 'https://shop.example.com'

Page({
  data: {
    item: '桂花拿铁两杯',
    ordering: false,
    refused: false,
  },

  onPay() {
    if (this.data.ordering) return
    this.setData({ ordering: true })
    // 一次点击一个编号：重试同一个请求时不变，后端据此只记一次。
    // One id for one tap: a retried request keeps it, so the back end counts the tap once.
    const requestId = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`

    // 直接在点击回调里调用，不要放进 setTimeout。 In the tap handler itself, never behind a setTimeout.
    wx.requestSubscribeMessage({
      tmplIds: TEMPLATES,
      success: (answer) => this.order(requestId, acceptedOf(answer)),
      fail: ({ errCode }) => {
        // 20004：用户关了总开关。 The user's main switch is off.
        this.setData({ refused: errCode === 20004 })
        // 不同意也照常下单。 Who refuses may order all the same.
        this.order(requestId, [])
      },
    })
  },

  order(requestId, accepted, tries = 3) {
    wx.request({
      url: `${SHOP}/orders`,
      method: 'POST',
      header: { authorization: wx.getStorageSync('session') },
      data: { request_id: requestId, item: this.data.item, accepted },
      success: ({ statusCode, data }) => {
        if (statusCode >= 500 && tries > 1) return this.order(requestId, accepted, tries - 1)
        this.setData({ ordering: false })
        if (statusCode === 200) {
          wx.redirectTo({ url: `/pages/order/detail?id=${data.id}` })
        } else {
          wx.showToast({ title: '下单失败', icon: 'error' })
        }
      },
      fail: () => {
        if (tries > 1) return this.order(requestId, accepted, tries - 1)
        this.setData({ ordering: false })
        wx.showToast({ title: '网络异常', icon: 'error' })
      },
    })
  },
})

// accept、acceptWithAudio、acceptWithAlert、acceptWithForcePush 才是一次机会；reject、ban、filter 都不是。
// Only accept, acceptWithAudio, acceptWithAlert and acceptWithForcePush are credits; reject, ban and filter are none.
function acceptedOf(answer) {
  return TEMPLATES.filter((id) => String(answer[id]).startsWith('accept'))
}
